"""The published methods, each in a package of its own: settings, the pure algorithm, its stages, the recipe."""

RECIPES: dict[str, tuple[str, str]] = {
    "head_to_head": (
        "strop.methods.head_to_head.config:HeadToHeadConfig",
        "strop.methods.head_to_head.recipe:head_to_head",
    ),
    "mixture_of_heads": (
        "strop.methods.mixture_of_heads.config:MixtureOfHeadsConfig",
        "strop.methods.mixture_of_heads.recipe:mixture_of_heads",
    ),
    "preference": (
        "strop.methods.preference.config:PreferenceConfig",
        "strop.methods.preference.recipe:preference",
    ),
    "selfplay": (
        "strop.methods.selfplay.config:SelfplayConfig",
        "strop.methods.selfplay.recipe:selfplay",
    ),
    "weak_to_strong": (
        "strop.methods.weak_to_strong.config:WeakToStrongConfig",
        "strop.methods.weak_to_strong.recipe:weak_to_strong",
    ),
}
"""What a recipe's ``recipe:`` key may name: the import paths of its configuration class and of its recipe function."""
