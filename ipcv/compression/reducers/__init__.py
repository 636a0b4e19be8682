"""Methods between encoder and language model: which visual tokens are in the prompt."""
