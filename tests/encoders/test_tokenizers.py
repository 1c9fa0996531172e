import subprocess
import sys

import pytest

from textfuse_jax.encoders.tokenizers import SPECIAL, load_tokenizer, pad_id, save_tokenizer, train_wordpiece

TEXTS = ["The cat sat on the mat.", "The dog sat on the log, the cat ran.", "Catalogues of dogs; naïve façades."] * 3


def test_special_tokens_template_and_pieces(tmp_path):
    tokenizer = train_wordpiece(TEXTS, 100)
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    assert pad_id(tokenizer) == 0
    assert tokenizer.encode("the cat").tokens == ["[CLS]", "the", "cat", "[SEP]"]
    assert tokenizer.encode("the", "cat").type_ids == [0, 0, 0, 1, 1]
    assert "".join(tokenizer.encode("sadog").tokens[1:-1]).replace("##", "") == "sadog"
    assert tokenizer.encode("猫").tokens == ["[CLS]", "[UNK]", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("Naïve log").ids) == "naive log"
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path).to_str() == tokenizer.to_str()


def test_the_same_texts_give_the_same_vocabulary_in_another_process():
    script = (
        "import hashlib; from textfuse_jax.encoders.tokenizers import train_wordpiece; "
        f"print(hashlib.sha256(train_wordpiece({TEXTS!r}, 120).to_str().encode()).hexdigest())"
    )
    run = lambda: subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout  # noqa: E731
    assert run() == run()


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="vocab_size must be >= 100, got 5"):
        train_wordpiece(TEXTS, 5)
    with pytest.raises(ValueError, match="no word in the texts"):
        train_wordpiece(["", " "], 100)


def test_vocabulary_files_alone_are_enough(tmp_path):
    vocabulary = [*SPECIAL, "the", "cat", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert load_tokenizer(tmp_path).encode("The cats").tokens == ["[CLS]", "the", "cat", "##s", "[SEP]"]
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json and no vocabulary file"):
        load_tokenizer(tmp_path)
