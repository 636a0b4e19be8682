"""One question, from opened videos to an answer: encode, prefill, generate."""
