"""Opinions and texts of large language models: one client, one cache, versioned prompts, class scores with presence masks."""
