"""The paper's claims, measured on the user's samples: many trainings, and how alike their answers are."""
