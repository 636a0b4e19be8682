"""Methods between the encoder and the language model."""
