"""Every error that a user of moaproof can meet.  Trusted: a refusal is raised here or nowhere.

Each class says in the user's words what went wrong; the message names the place first and the reason after.
``exit_code`` is what the command line answers (1 refuted, 2 input, 3 incomplete, 4 integrity, 5
disagreement).
"""

from __future__ import annotations


class MoaproofError(Exception):
    """Root of all errors that moaproof raises on purpose."""

    exit_code = 2


class IllFormed(MoaproofError):
    """A term breaks the rules of the language: a wrong sort, shape, arity, or an unbound variable."""


class RuleDoesNotApply(MoaproofError):
    """The left side of a rule does not match the subterm at the step's path."""

    exit_code = 4


class Refuted(MoaproofError):
    """An obligation is false.  ``witness`` gives values for which it fails."""

    exit_code = 1

    def __init__(self, message: str, witness: dict[str, int] | None = None):
        self.witness = witness or {}
        values = ", ".join(f"{k} = {v}" for k, v in sorted(self.witness.items()))
        super().__init__(f"{message}; it fails at {values}" if values else message)


class Unknown(MoaproofError):
    """An obligation was neither proved nor refuted.  Never counted as proved."""

    exit_code = 3


class CertificateInvalid(MoaproofError):
    """The bytes are not a certificate of a known schema: unreadable, truncated, an unknown field or version."""


class DigestMismatch(MoaproofError):
    """The bytes parse, but a digest, a rule, a kernel or a re-derived term differs from what is stated."""

    exit_code = 4


class JudgesDisagree(MoaproofError):
    """Two deciders answered the same question differently.  One of them is wrong; nothing is concluded."""

    exit_code = 5


class NotCovered(MoaproofError):
    """The input is sound but outside what moaproof handles; the message names what is covered."""


class BackendMissing(MoaproofError):
    """Something that this command needs is not installed or cannot be reached."""

    exit_code = 3
