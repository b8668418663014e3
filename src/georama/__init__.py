"""georama: any place on Earth becomes representations, maps and answers, with an honest error."""

__version__ = "0.1.0"
