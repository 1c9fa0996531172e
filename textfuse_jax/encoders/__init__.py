"""Encoders: one transformer for the BERT family, its weights, tokenizers, and a cache of frozen features."""
