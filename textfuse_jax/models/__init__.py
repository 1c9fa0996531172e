"""The model behind the encoder: pyramid, edges, message passing, pooling, head, and the classifier that joins them."""
