"""Mixture-of-head attention in vision transformers: ViT of transformers, DiT of diffusers, published budgets."""
