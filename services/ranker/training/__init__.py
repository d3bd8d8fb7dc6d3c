"""Training of the ranking model. Only here is torch imported, and only in model, train, export."""
