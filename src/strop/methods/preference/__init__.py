"""Preference learning from written principles (PsychoCounsel): ratings, pairs, reward models, DPO, online DPO."""
