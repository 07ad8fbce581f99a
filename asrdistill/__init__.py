"""Train an ensemble of speech-recognition acoustic models and distil it into one."""

__version__ = "0.1.0"
