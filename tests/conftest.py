"""Eight virtual CPU devices, strict JAX, absl flags parsed, sockets closed except loopback, programs compiled once."""

import atexit
import os
import pathlib
import shutil
import socket
import sys
import tempfile

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "TEXTFUSE_TEST_CACHE" not in os.environ:  # one for this run, its workers and the processes they start
    os.environ["TEXTFUSE_TEST_CACHE"] = tempfile.mkdtemp(prefix="textfuse-tests-")
    atexit.register(shutil.rmtree, os.environ["TEXTFUSE_TEST_CACHE"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["TEXTFUSE_TEST_CACHE"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain and TFDS read absl flags


_connect = socket.socket.connect


def _loopback_only(self, address):
    host = address[0] if isinstance(address, tuple) else None
    if host is not None and host not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"tests reach no network, got a connection to {address}")
    return _connect(self, address)


socket.socket.connect = _loopback_only


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder TEXTFUSE_DATA names; tests that need real data sets are skipped, and say so, without it."""
    folder = os.environ.get("TEXTFUSE_DATA")
    if not folder:
        pytest.skip("TEXTFUSE_DATA is not set: real-data test not run")
    return pathlib.Path(folder)
