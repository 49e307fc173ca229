"""The client: what backend services import."""
