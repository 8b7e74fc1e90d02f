"""The named claims: which Spec, under which hypotheses, may be called attention.  Trusted.

A certificate's name says nothing.  A Spec and a set of hypotheses whose digests stand here have a name; any other
pair is "proved for another specification".  Which term a digest stands for is shown by ``moaproof explain`` on a
certificate of that name, and ``make regen`` derives those certificates from ``examples/attention.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..term import Term

# name: (digest of the Spec, digests of the hypotheses in ascending order)
CLAIMS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "attention": (
        "495fe222e65fdc65cd6b432ae0f1eb94637066a2656cd1f14d893c6dce6935c4",
        (),
    ),
    "causal attention": (
        "9e16b389abe6c9a7c96ca1d203c25d742233b743bc8c2247527fa4a6ca4c5edc",
        (),
    ),
    "masked attention": (
        "fc177b35b9b5150ac3ce507f30b357596d66ee5fb4bb6eaa83ed85f83a63b77a",
        (
            "4a35db270768b3296bd014ca164a13a13be2287852a9589927f21a5245cdedef",
            "568ae05c49e9f7b05861d303ce66bae73be37c024ef699d7ccb5665dc4bd0a1f",
            "89f57735e4934ec14e7b61c8c88eea53cb90f643d2835223eaaaed62aa07358b",
            "f06d8a636de3cd0fbd01a34bf381e696f3aed817a98377eee49b50b8707a3a09",
        ),
    ),
    "grouped-query attention": (
        "601a808a00e0284fb8b17b76d6179110f41044138f41dd5647600e0dba4fc79d",
        (
            "0dfa30dce0fe0bffce6cb4529e3ef49ccf61650a2b7f4714a6d4037f1cc6c431",
            "34ef38db3e572dd1db4c0cf174ce14d4b451d86a4479284b62addff1ca1c0464",
            "d4c4f95b301cc7ddc8dff798f655fec679571648eb57be1cca4084731ef09f84",
        ),
    ),
    "causal grouped-query attention": (
        "0e19c20c29999209abd76eff4ba18414c7ec2c84297a976736df612b8d31a2a8",
        (
            "0dfa30dce0fe0bffce6cb4529e3ef49ccf61650a2b7f4714a6d4037f1cc6c431",
            "34ef38db3e572dd1db4c0cf174ce14d4b451d86a4479284b62addff1ca1c0464",
            "d4c4f95b301cc7ddc8dff798f655fec679571648eb57be1cca4084731ef09f84",
        ),
    ),
    "masked grouped-query attention": (
        "399e3725be62ac253d588828a19c53e1a1a109548ac3cdb806a314c232794176",
        (
            "0dfa30dce0fe0bffce6cb4529e3ef49ccf61650a2b7f4714a6d4037f1cc6c431",
            "34ef38db3e572dd1db4c0cf174ce14d4b451d86a4479284b62addff1ca1c0464",
            "4a35db270768b3296bd014ca164a13a13be2287852a9589927f21a5245cdedef",
            "568ae05c49e9f7b05861d303ce66bae73be37c024ef699d7ccb5665dc4bd0a1f",
            "89f57735e4934ec14e7b61c8c88eea53cb90f643d2835223eaaaed62aa07358b",
            "d4c4f95b301cc7ddc8dff798f655fec679571648eb57be1cca4084731ef09f84",
            "f06d8a636de3cd0fbd01a34bf381e696f3aed817a98377eee49b50b8707a3a09",
        ),
    ),
    "attention with scale 1/sqrt(dk)": (
        "23e962c84777cfd517c2486ad0709f65f736aaa1533fdc871c2e97761d969736",
        ("6bd4fc4069ba60d25e3cb3891436d67cc7790af4de451193d99cb0fbfd7317bc",),
    ),
    "attention by an unshifted softmax": (
        "2ce12c6167b1b87ae3e517ac822446d70b37e4296988e4e19090331975158003",
        (),
    ),
    "one masked head": (
        "e3b29b4110086c125ad5d2e9118ccca7514956af9fd2fae7676cf802090fe394",
        (),
    ),
}


def claim_of(spec: Term, hypotheses: Sequence[Term]) -> str | None:
    """The name under which this Spec with exactly these hypotheses is known, if any."""
    key = (spec.digest, tuple(sorted(h.digest for h in hypotheses)))
    return next((name for name, row in CLAIMS.items() if row == key), None)
