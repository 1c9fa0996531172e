"""The labels of the docstrings corpus: subject area -> modules whose docstrings belong to it.

A prefix stands for the module and everything below it; the longest prefix that fits decides. Only the standard library
and what requirements.txt installs is listed; what isn't there (another Python, a leaner install) is skipped. Areas cut
across packages, so that an author's style is no label.
"""

AREAS: dict[str, tuple[str, ...]] = {
    "numerics": (
        *("numpy.lib", "numpy._core", "numpy.linalg", "numpy.fft", "numpy.polynomial", "numpy.ma"),
        *("numpy.matrixlib", "scipy.linalg", "scipy.optimize", "scipy.sparse", "scipy.integrate"),
        *("scipy.interpolate", "scipy.fft", "scipy.fftpack", "scipy.special", "scipy.signal", "scipy.ndimage"),
        *("scipy.spatial", "scipy.odr", "scipy.differentiate", "jax._src.numpy", "jax._src.lax", "jax._src.scipy"),
        *("jax.experimental.sparse", "opt_einsum", "fractions", "decimal", "_pydecimal"),
    ),
    "learning & statistics": (
        *("sklearn", "scipy.stats", "scipy.cluster", "statistics", "random", "optax", "jraph", "jax._src.nn"),
        *("jax.example_libraries", "flax.linen", "flax.metrics", "flax.nnx.nn", "flax.nnx.training"),
    ),
    "graphics & windows": (
        *("matplotlib", "mpl_toolkits", "PIL", "contourpy", "fontTools.pens", "tkinter", "turtle", "curses"),
        *("colorsys",),
    ),
    "networking": (
        *("http", "urllib", "socket", "socketserver", "ssl", "ftplib", "smtplib", "smtpd", "imaplib", "poplib"),
        *("nntplib", "telnetlib", "ipaddress", "xmlrpc", "wsgiref", "webbrowser", "cgi", "netrc", "asyncore"),
        *("asynchat", "requests", "urllib3", "h11", "httpx", "httpx2", "httpcore", "httpcore2"),
        *("anyio._core._sockets", "anyio.streams.tls", "anyio.abc._sockets", "asyncio.base_events"),
        *("asyncio.events", "asyncio.selector_events", "asyncio.proactor_events", "asyncio.sslproto"),
        *("asyncio.transports", "asyncio.protocols", "fsspec.implementations.http", "fsspec.implementations.ftp"),
        *("huggingface_hub.hf_api", "huggingface_hub.inference", "huggingface_hub.utils._http"),
        *("huggingface_hub.utils._auth",),
    ),
    "files & processes": (
        *("os", "posixpath", "ntpath", "genericpath", "pathlib", "shutil", "tempfile", "glob", "fnmatch"),
        *("filecmp", "fileinput", "zipfile", "tarfile", "gzip", "bz2", "lzma", "_compression", "io", "_pyio"),
        *("stat", "mmap", "dbm", "shelve", "subprocess", "multiprocessing", "concurrent", "threading", "queue"),
        *("sched", "signal", "platform", "pty", "pipes", "_threading_local", "asyncio.subprocess"),
        *("asyncio.base_subprocess", "asyncio.unix_events", "asyncio.locks", "asyncio.queues", "asyncio.tasks"),
        *("asyncio.runners", "asyncio.threads", "asyncio.taskgroups", "asyncio.timeouts", "anyio._core._fileio"),
        *("anyio._core._subprocesses", "anyio._core._synchronization", "anyio._core._tasks", "psutil", "fsspec"),
        *("etils.epath", "filelock", "joblib", "orbax.checkpoint", "aiofiles", "huggingface_hub._local_folder"),
        *("huggingface_hub.file_download", "huggingface_hub.hf_file_system"),
    ),
    "text & formats": (
        *("json", "csv", "xml", "html", "re", "sre_parse", "string", "textwrap", "configparser", "tomllib"),
        *("plistlib", "codecs", "encodings", "difflib", "gettext", "locale", "base64", "quopri", "uu", "binhex"),
        *("mimetypes", "mailbox", "email", "mailcap", "calendar", "datetime", "_pydatetime", "_strptime"),
        *("stringprep", "unicodedata", "shlex", "pprint", "reprlib", "tokenize", "yaml", "pyarrow"),
        *("docstring_parser", "markdown_it", "mdurl", "pyparsing", "dateutil", "simplejson", "humanize", "msgpack"),
        *("pygments.formatters", "pygments.lexers", "pygments.lexer", "pygments.filters", "pygments.token"),
        *("regex", "rich.text", "rich.markup", "rich.markdown", "rich.table", "rich.pretty", "rich.json"),
        *("rich.syntax", "rich.highlighter", "rich.segment", "rich.cells", "rich._wrap", "rich.columns"),
        *("google.protobuf.json_format", "google.protobuf.text_format", "transformers.tokenization_utils_base"),
        *("transformers.convert_slow_tokenizer",),
    ),
}

NO_AREA = (
    *("matplotlib._api", "matplotlib.cbook", "matplotlib.rcsetup", "sklearn.utils", "sklearn.exceptions", "scipy._lib"),
    *("numpy.lib._datasource", "numpy.lib._npyio_impl", "numpy.lib.format", "numpy.lib._utils_impl"),
)
"""Modules below a prefix above whose docstrings are about something else, mostly programming itself."""
