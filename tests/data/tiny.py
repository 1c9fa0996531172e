"""A WordPiece and a byte-level tokenizer of a few words, made in the test."""

import functools

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

WORDS = "the cat sat on a mat and dog ran to red house she said it is good old new big small".split()  # noqa: SIM905


@functools.cache
def wordpiece() -> tokenizers.Tokenizer:
    """Whole words of ``WORDS``, everything else letter by letter; padding and truncation set, as in many checkpoints."""
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *(w for w in WORDS if len(w) > 1)]
    tokenizer = tokenizers.Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(10)
    return tokenizer


@functools.cache
def byte_level() -> tokenizers.Tokenizer:
    """One token a byte, no special tokens: a character outside ASCII is several tokens with the same offsets."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
