"""What a hospital takes part in secure sums with: its key, the others' public keys, and the record of opened sums."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.errors import Refusal
from fedpolyp.privacy.openings import OPENINGS, Openings
from fedpolyp.privacy.secure_sum import Member, Terms
from fedpolyp.text import printable


@dataclass(frozen=True)
class Keyring:
    """One hospital's own key, and whose public keys it knows; the coordinator names hospitals, never keys."""

    member: Member
    public: Mapping[str, bytes]  # X25519 public keys (32 bytes each), by hospital
    openings: Openings

    @classmethod
    def simulated(cls, seed: int, hospital: str, members: Collection[str], state: Path) -> "Keyring":
        """That of a hospital in a simulation: all keys follow from the seed, so none is a secret."""
        public = {name: Member.simulated(seed, name).public for name in members}
        return cls(Member.simulated(seed, hospital), public, Openings(state / OPENINGS))

    def terms(self, run: str, round: int, members: Collection[str], settings: bytes = b"") -> Terms:
        """The terms of a sum over `members`, all of whom were asked with these `settings` (a digest).

        Raises:
            Refusal: a hospital is named twice, or its key is not known.
        """
        if len(set(members)) < len(members):
            raise Refusal("a hospital of a sum is named twice")
        if unknown := sorted(set(members) - self.public.keys()):
            raise Refusal(f"{printable(unknown[0], 100)} is named in a sum, and has no key in the roster of mask keys")
        return Terms(run, round, {name: self.public[name] for name in members}, settings)
