"""Methods inside the language model's layers."""
