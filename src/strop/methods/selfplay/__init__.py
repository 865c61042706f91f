"""Self-play between patient and therapist (MentalArena, Li et al. 2024, arXiv 2410.06845)."""
