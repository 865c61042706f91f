"""Pages served on this machine: experts label blinded pairs, and what their labels agree on."""

from strop.web.blinding import Item, blinded_items, set_hash
from strop.web.marks import Event, Mark, fold

__all__ = ["Event", "Item", "Mark", "blinded_items", "fold", "set_hash"]
