"""LabelFusion: a classifier from the opinions of an encoder and of LLMs, which may be missing, wrong or expensive."""
