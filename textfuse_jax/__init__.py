"""TextFuse-JAX: text classification that fuses every signal a text has, as pure functions on packed rows."""

__version__ = "0.1.0"
