"""Mixture-of-head attention (MoH): each token uses only some query heads, and only those are computed.

Importing this package tells transformers the model types of converted models (``moh_llama`` and so on), so that its
automatic classes load them; see `strop.heads.modeling.families`.
"""

from strop.heads.modeling.families import register as _register

_register()
