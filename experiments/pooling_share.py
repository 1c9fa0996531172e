"""Mean, attention, or how much of each: alpha of hybrid pooling (arXiv 2512.09444) on cached features of AG News.

    TEXTFUSE_DATA=DIR python -m experiments.pooling_share [:runlocal]

alpha in {0, .25, .5, .75, 1}, learned, and learned for each dimension; the plain poolings beside them. 4,000 training rows, 5
seeds; about 8 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.study import Setting, frozen, linear_rows, main
from experiments.study_graphs import attention_facts

SETTINGS = [
    *(Setting(f"alpha = {alpha:g}", {"model.pooling_args.alpha": alpha}) for alpha in (1.0, 0.0, 0.25, 0.5, 0.75)),
    Setting("alpha learned", {"model.pooling_args.alpha": "learned"}),
    Setting("alpha learned, each dimension", {"model.pooling_args.alpha": "per_dimension"}),
    Setting(
        "alpha learned, each class",
        {
            "model.pooling": "textfuse_jax.models.pooling:MeanAndAttention",
            "model.head": "textfuse_jax.models.head:PerClassMix",
        },
    ),
    Setting("self-attention, alpha = 0.5", {"model.pooling_args.self_attention": True}),
    *linear_rows(),
    Setting("maximum", {"model.pooling": "textfuse_jax.models.pooling:Max"}),
]

if __name__ == "__main__":
    main("pooling_share", frozen(), SETTINGS, reference="alpha = 1", measure=attention_facts)
