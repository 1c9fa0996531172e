"""The fields of an experiment, their defaults, and the variants every config file offers; ``config_checks`` tells what is wrong.

A config file holds ``get_config(arg=None)``: it takes ``default_config()``, changes what its experiment changes, and ends
with ``finish(config, arg)``. ``arg`` is a comma-separated list of the names in ``VARIANTS``. Numbers that follow from
others (steps, rows a batch, warm-up steps) are derived in code, never here, so that no later override leaves one stale; the
variants set fields before overrides on the command line are applied.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from ml_collections import ConfigDict

from textfuse_jax.cascade_config import cascade_fields
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.data.sources import FIELDS
from textfuse_jax.encoders.checkpoints import MINILM
from textfuse_jax.types import parse_tap

KNOWN_SHA256 = {MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


def default_config() -> ConfigDict:
    """Every field with its default; the comment beside a field is its documentation."""
    config = ConfigDict()
    config.name = "experiment"
    config.seed = 0

    data = config.data = ConfigDict(dict(FIELDS))  # where the documents come from: the fields stand in data/sources.py
    data.seed = -1  # of splits, samples and the order of documents; -1 = config.seed. Trials of a sweep share it
    data.source = "ag_news"
    data.where = ConfigDict()
    data.folds = 0  # for --sweep over data.fold alone: so many parts of the training split; one run takes all of it
    data.fold = -1  # set by such a sweep
    data.max_length = 128  # tokens a document (or window), [CLS] and [SEP] counted
    data.long_documents = "truncate"  # truncate | windows
    data.window_stride = 64  # tokens from one window's start to the next, where no sentence ends
    data.train_windows = 0  # train on at most so many leading windows of each document; 0 = all. Held-out ones are read whole
    data.phrase_length = 8  # longest phrase, tokens
    data.row_lengths = (128,)  # rows a document may be packed into; each is one compiled shape
    data.tokens_per_batch = 2048  # over all devices; rows a batch = tokens_per_batch // row length
    data.eval_tokens_per_batch = 2048
    data.packed = True  # False = one document a row, ordinary padding
    data.prefetch = 2

    encoder = config.encoder = ConfigDict()
    encoder.checkpoint = MINILM  # folder | hub id | package:NAME/folder | scratch
    encoder.sha256 = ""  # of model.safetensors; "" = not checked, but for the MiniLM package, whose sum is known
    encoder.mode = "tuned"  # tuned | frozen | cached (frozen, features extracted once)
    encoder.tuned_from = 0  # mode "tuned": embeddings and layers below this stay frozen; 0 = everything is tuned
    encoder.dropout = 0.1
    encoder.attention_dropout = 0.1
    encoder.dtype = "auto"  # of products: bfloat16 where it is fast, else float32; sums and parameters are float32
    encoder.remat = False  # trade time for memory
    encoder.cache_dtype = "float16"  # of features in mode "cached"
    encoder.cache_dir = ""  # "" = <user cache>/textfuse_jax
    encoder.fused_attention = ""  # "cudnn" (NVIDIA, bfloat16), "xla": one fused kernel where attention has no dropout; "" = ours
    encoder.scratch = ConfigDict(dict(vocab_size=8000, width=128, layers=4, heads=4, feed_forward=512))  # checkpoint "scratch"
    encoder.scratch.tokenizer = ""  # "" = WordPiece of vocab_size trained on the training split; else a checkpoint's
    encoder.scratch.kinds = ()  # other layers than a transformer's, e.g. ("lstm", "convolution"): see encoders/token_layers.py

    model = config.model = ConfigDict()
    model.levels = ("02/phrase", "04/sentence", "06/document")  # layer/scale, fine to coarse
    model.nodes = ("phrase", "sentence")  # scales whose units become graph nodes
    model.width = 384  # of levels and nodes, the papers' hidden size
    model.pyramid = "textfuse_jax.models.pyramid:Pyramid"
    model.pyramid_args = ConfigDict()
    model.edges = ("textfuse_jax.models.edges:window", "textfuse_jax.models.edges:knn", "textfuse_jax.models.edges:hierarchy")
    kinds = ("window", "knn", "saliency", "LearnedSaliency", "hierarchy", "random", "full")
    model.edge_tap = ""  # the features edges are made from, e.g. "06/phrase" (static, if frozen); "" = the nodes' own (dynamic)
    kinds += ("replies", "Delays", "delay_vectors")  # models.replies, of cascades
    model.edges_args = ConfigDict({kind: {} for kind in kinds})  # what follows the colon -> keyword arguments
    model.propagate = "textfuse_jax.models.message_passing:GCN"
    model.propagate_args = ConfigDict()
    model.pooling = "textfuse_jax.models.pooling:Hybrid"
    model.pooling_args = ConfigDict()
    model.head = "textfuse_jax.models.head:Head"
    model.head_args = ConfigDict()
    model.lexical = ""  # e.g. "textfuse_jax.models.lexical:BagOfNgrams": the words themselves join the encoder's features
    model.lexical_args = ConfigDict()
    model.wide = ""  # e.g. "textfuse_jax.models.lexical:NgramLogits": a linear model of the words, averaged with the network
    model.wide_args = ConfigDict()
    model.document_taps = ()  # e.g. ("06/document",): encoder means joined to the pooled graph; () = the graph alone
    model.self_loops = True
    # of cascades alone, which read neither levels, nodes nor pyramid:
    model.fusion = ""  # e.g. "textfuse_jax.models.fusion:Gated": posts' features fused with those of their rewritten texts
    model.fusion_args = ConfigDict()
    model.inputs_args = ConfigDict()  # of models.post_inputs:PostInputs
    model.edge_dropout = 0.0  # of replies, in training; needs edges made from the parents (models.replies)
    model.virtual_root = False  # a node a cascade that is joined to all of its posts
    model.source_vector = False  # the source's own features are joined to what is pooled

    config.cascades = cascade_fields()  # read where data.source is a set of cascades: cascade_config.py

    llm = config.llm = ConfigDict()  # whose opinion, or whose words, are asked for; docs/llm.md
    llm.provider = ""  # openai | deepseek | gemini | compatible (any server: base_url) | replay | local; "" = none
    llm.model = ""  # its name at the provider, e.g. "gpt-4o-mini"
    llm.base_url = ""  # "" = the provider's own
    llm.key_variable = ""  # environment variable that holds the API key; "" = the provider's own, OPENAI_API_KEY and so on
    llm.replay_path = ""  # provider "replay": JSONL or CSV of id or text -> answer
    llm.members = ConfigDict()  # several models side by side: name -> ConfigDict of those of these fields that differ
    llm.temperature = 0.0  # below 0 = not sent: some models refuse it
    llm.max_output_tokens = 256  # hidden reasoning included
    llm.structured = "auto"  # schema (JSON schema) | json | text | auto (what the provider has)
    llm.logprobs = -1  # alternatives a token; 0 = none, -1 = 10 where the provider offers them
    llm.extra = ConfigDict()  # further parameters of the call, e.g. reasoning_effort
    llm.concurrency = 16  # calls in flight
    llm.requests_per_minute = 0  # the account's limit; 0 = none. Of this process: divide it where several share it
    llm.tokens_per_minute = 0
    llm.timeout_seconds = 60.0  # of one call
    llm.attempts = 10  # calls for one answer, with waits in between
    llm.backoff_seconds = 1.0  # mean wait after the first fault, doubled with each
    llm.backoff_most_seconds = 60.0
    llm.price_input = -1.0  # per million tokens; -1 = unknown. Prices change, look them up
    llm.price_cached_input = -1.0  # -1 = as price_input
    llm.price_output = -1.0
    llm.call_share = 1.0  # of the documents a fusion predicts: those from whose opinion most is expected
    llm.dry_run = False  # say what would be asked, its cost and time, and stop there
    llm.budget = 0.0  # most that a run may spend, in the currency of the prices; 0 = no limit
    llm.cache = ""  # file of all answers; "" = <user cache>/textfuse_jax/llm.sqlite
    llm.template = ""  # e.g. "zero_shot/1", or "my_lab.prompts:MINE"; "" = by shots
    llm.shots = 0  # examples from the training split shown with each text
    llm.shots_by = "balanced"  # balanced (classes in turn, by the seed) | nearest (by the encoder)
    llm.scores = "auto"  # logprobs | confidence | onehot | votes | auto (the first that an answer has)
    llm.samples = 1  # answers a document; more than one needs a temperature
    llm.descriptions = ConfigDict()  # class name -> one line that explains it

    loss = config.loss = ConfigDict()
    loss.name = "cross_entropy"  # cross_entropy | focal | binary (multi-label)
    loss.label_smoothing = 0.0
    loss.focal_gamma = 2.0
    loss.consistency = 0.0  # weight of the disagreement of two passes with their own dropout masks (R-Drop), twice the work
    loss.logit_adjustment = 0.0  # tau: cross-entropy of logits + tau log(share of the class) (Menon et al. 2021); 0 = off
    loss.class_weights = "none"  # none | balanced
    loss.class_weight_values = ()  # one number a class, in the order of the class names, in place of class_weights

    optimizer = config.optimizer = ConfigDict()
    optimizer.name = "adamw"  # adamw | adam (L2 added to the gradient)
    optimizer.learning_rate = 1e-3  # of everything behind the encoder
    optimizer.encoder_learning_rate = 1e-4
    optimizer.layer_decay = 1.0  # encoder layer l learns at layer_decay ** (L - l) of its rate
    optimizer.weight_decay = 0.01
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.schedule = "cosine"  # cosine | linear | constant
    optimizer.warmup_fraction = 0.1
    optimizer.clip_norm = 1.0  # 0 = off

    training = config.training = ConfigDict()
    training.total_epochs = 4
    training.pretrain = "none"  # none | contrastive: a stage in which the encoder learns first, see training/contrastive.py
    stage = training.contrastive = ConfigDict()
    stage.supervised = False  # False: two dropout passes of a text belong together (SimCSE); True: texts of one class (SetFit)
    stage.temperature = 0.05
    stage.total_epochs = 1
    stage.learning_rate = 3e-5  # of the encoder; decay, schedule and layer_decay are those of optimizer
    stage.dropout = 0.1  # what the two passes differ by
    stage.tokens_per_batch = 4096  # all documents of a batch are each other's negatives
    training.trials_at_once = 0  # of a sweep's trials, side by side; the others follow one another in the same step. 0 = all
    training.accumulate = 1  # slices a batch is processed in: memory falls, the result stays
    training.average_decay = 0.0  # decay of an exponential average of the weights that is evaluated; 0 = off
    training.eval_every_steps = 0  # 0 = at the end of every epoch
    training.patience = 0  # evaluations without a better validation score before it stops; 0 = never
    training.select_by = "accuracy"  # accuracy | f1_macro | nll, on validation
    training.log_every_steps = 20
    training.checkpoint_every_steps = 200
    training.keep_checkpoints = 2

    evaluation = config.evaluation = ConfigDict()
    evaluation.reference = True  # TF-IDF + logistic regression on the same split
    evaluation.bootstrap_samples = 1000
    evaluation.graphs = 2  # sample graphs drawn into the report
    evaluation.published = ConfigDict()  # metric -> published number, shown beside ours
    evaluation.published_data = ""  # name of the data they are of; on other data they are not shown
    evaluation.published_source = ""

    fusion = config.fusion = ConfigDict()  # LabelFusion: the encoder's opinion and those of config.llm
    fusion.combiner = ""  # "" = no fusion: the encoder's run alone | mlp | voting | weighted | stacking | per_class
    fusion.folds = 5  # of the training split, for what the encoder says of documents it hasn't seen; 0 = fit on validation
    fusion.asked_rows = 2000  # most documents of each, validation and training, that LLMs are asked about to fit; 0 = all
    fusion.vector = False  # whether the network reads the pretrained encoder's vector beside the scores
    fusion.simulated_accuracy = 0.0  # > 0: one more member, simulated from the true labels and labelled so; for studies
    fusion.hidden = 32  # width of the network's hidden layer; 0 = the pool of calibrated members alone
    fusion.dropout = 0.1
    fusion.drop_members = 0.3  # share of LLM opinions hidden in training, so that one model serves none, some and all
    fusion.learning_rate = 1e-2
    fusion.steps = 300
    fusion.batch = 512  # documents a step
    fusion.seeds = 5  # networks whose logits are averaged
    fusion.harm = 1.0  # a member better on validation by more than so many standard errors takes the fusion's place

    parallel = config.parallel = ConfigDict()
    parallel.devices = 0  # devices the rows are spread over; 0 = all, of all processes
    parallel.engine = "jit"  # jit (a mesh; XLA divides the step) | pmap (a program a device)
    parallel.sharding = ()  # () = parameters whole on every device; FSDP = ((".", -1),): see parallel.partition
    return config


def data_seed(config: ConfigDict) -> int:
    """The seed of splits, samples and the order of documents."""
    return config.seed if config.data.seed < 0 else config.data.seed


def runlocal(config: ConfigDict) -> None:
    """A smoke run of seconds: few rows, short texts, one epoch."""
    config.data.train_rows = 96
    config.data.validation_rows = 48
    config.data.test_rows = 48
    config.data.max_length = 32
    config.data.row_lengths = (32,)
    config.data.tokens_per_batch = config.data.eval_tokens_per_batch = 512
    config.data.window_stride = 16
    config.training.total_epochs = config.training.contrastive.total_epochs = 1
    config.training.contrastive.tokens_per_batch = 512
    config.training.log_every_steps = 2
    config.training.checkpoint_every_steps = 50
    config.evaluation.bootstrap_samples = 100
    config.evaluation.graphs = 1


def docstrings(config: ConfigDict) -> None:
    """The same model on the embedded corpus: docstrings of the standard library and the installed packages."""
    if config.data.source in CASCADES:
        config.data.source, config.cascades.task, config.cascades.protocol = "docstring_trees", "", "folds"
        config.cascades.characters = False
        return
    config.data.source, config.data.text_remove = "docstrings", ""
    config.data.validation_rows = min(config.data.validation_rows, 400)  # of some thousands in all


def scratch(config: ConfigDict) -> None:
    """No pretrained weights: random weights and a WordPiece vocabulary trained on the training split."""
    if config.data.source in CASCADES:  # words in place of the encoder, nothing to fuse them with
        config.encoder.checkpoint, config.encoder.mode = "scratch", "tuned"
        config.cascades.inputs = ("words", *(name for name in config.cascades.inputs if name == "source"))
        config.cascades.augmentation.source, config.model.fusion = "", ""
        config.model.fusion_args = ConfigDict()
        return
    config.encoder.checkpoint = "scratch"
    config.encoder.mode = "tuned"
    config.encoder.tuned_from = 0
    config.encoder.scratch.layers = max(parse_tap(tap)[0] for tap in config.model.levels)
    config.optimizer.encoder_learning_rate = config.optimizer.learning_rate


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {"runlocal": runlocal, "docstrings": docstrings, "scratch": scratch}


def finish(config: ConfigDict, arg: str | None) -> ConfigDict:
    """Applies the variants in ``arg``.

    Raises:
      ValueError: an unknown variant; the near one is suggested.
    """
    for name in filter(None, (arg or "").split(",")):
        if name not in VARIANTS:
            near = difflib.get_close_matches(name, VARIANTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(VARIANTS)}"
            raise ValueError(f"unknown config variant {name!r}; {hint}")
        VARIANTS[name](config)
    return config
