"""The exceptions that a caller may want to catch."""


class UserError(ValueError):
    """Something that the user can mend: a path, a setting, a recording, a full disk.

    The message is one paragraph: subject and id, what was found, what was expected,
    what to do. The command line prints it without a traceback and exits with status 1.
    """


class CorpusError(UserError):
    """Recordings, transcripts or a lexicon that cannot be used as they are."""


class DownloadError(UserError):
    """A file that could not be fetched, or that came as another one than was promised."""


class RecipeError(UserError):
    """A recipe, or an override of one, that cannot be used as it is."""


class ExperimentError(UserError):
    """An experiment folder that cannot be used: not writable, in use, or not what it should be."""


class ContractError(UserError):
    """A file that is not what its reader was promised: another version, shape, hash or temperature."""
