"""Mixture-of-head attention (MoH): each token uses only some query heads, and only those are computed.

Importing this package tells transformers the model types of converted models (``moh_llama`` and so on), so that its
automatic classes load them; see `strop.heads.registration`.
"""

from strop.heads.registration import register_when_loaded

register_when_loaded()
