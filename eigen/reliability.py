"""When an eigenfeature is not to be trusted."""

# Above this ratio σ₂/σ₁ the direction of u₁ is decided by noise: a perturbation E
# of the maps turns it by up to ‖E‖ / (σ₁ − σ₂).
ILL_DETERMINED_RATIO = 0.99
