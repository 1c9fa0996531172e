"""Tokenizers: a checkpoint's own, or a WordPiece vocabulary trained on the training split."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder, without truncation or padding.

    From ``tokenizer.json``; where there are only vocabulary files transformers converts them.

    Raises:
      FileNotFoundError: the folder holds neither.
    """
    folder = pathlib.Path(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif any((folder / name).is_file() for name in ("vocab.txt", "vocab.json", "sentencepiece.bpe.model")):
        from transformers import AutoTokenizer  # takes seconds to import, and few checkpoints need it

        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True, local_files_only=True).backend_tokenizer
    else:
        raise FileNotFoundError(f"{folder} has no tokenizer.json and no vocabulary file (vocab.txt, vocab.json, ...)")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """Vocabulary id of the padding token: that of ``[PAD]`` or ``<pad>``."""
    for token in ("[PAD]", "<pad>"):
        if (found := tokenizer.token_to_id(token)) is not None:
            return found
    raise ValueError("the tokenizer has neither [PAD] nor <pad> in its vocabulary")


def train_wordpiece(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer with BERT's template ``[CLS] A [SEP]``; the same texts give the same vocabulary.

    Args:
      texts: the training split, and no other.
      vocab_size: number of vocabulary entries wanted, the five special ones included, >= 100. Fewer come out where the
        texts have fewer pieces. At most a quarter of them are characters, the most frequent; words with others are [UNK].

    Raises:
      ValueError: no word in ``texts``, or ``vocab_size`` below 100.
    """
    if vocab_size < 100:
        raise ValueError(f"vocab_size must be >= 100, got {vocab_size}")
    tokenizer = _untrained(models.WordPiece(unk_token="[UNK]"))
    words = Counter(
        word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    )
    if not words:
        raise ValueError("train_wordpiece found no word in the texts; are they empty?")
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for char in word:
            counts[char] += count
    alphabet = sorted(sorted(counts, key=lambda char: (-counts[char], char))[: vocab_size // 4])
    inner = sorted({char for word in words for char in word[1:]} & set(alphabet))
    # The trainer numbers inner characters in the order of a randomly seeded hash map and breaks ties by number, so that
    # two runs differ. Passing them as special tokens fixes their numbers.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *(f"##{char}" for char in inner)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = _untrained(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))  # in which ##x is an ordinary piece
    trained.add_special_tokens(list(SPECIAL))
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, trained.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return trained


def save_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """Write ``folder/tokenizer.json``, which ``load_tokenizer`` reads."""
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(pathlib.Path(folder) / "tokenizer.json"))


def _untrained(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
