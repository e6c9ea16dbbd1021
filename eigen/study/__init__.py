"""How stable and how clear features are, and what they tell apart: arrays in, numbers out."""
