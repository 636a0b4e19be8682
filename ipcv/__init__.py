"""Video understanding with in-encoder token compression."""
