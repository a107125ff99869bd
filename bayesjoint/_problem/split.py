"""The split problem: a copy of shared latents for each modality, all errors kept as they are."""

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem


def split(problem: "JointProblem") -> "JointProblem":
    """Return the problem in which no two modalities share a latent; see `JointProblem.split`."""
    separate = problem.separate()
    copies = copies_of({name: list(alone.latent) for name, alone in separate.items()})
    latents, couplings = [], []
    for name, alone in separate.items():
        latents += [_named(latent, copies[name].get(latent.name)) for latent in alone.latents]
        couplings += [coupling.renamed(copies[name]) for coupling in alone.couplings]
    modalities = [_reading(m, copies.get(m.name)) for m in problem.modalities]
    return problem.replace(latents=latents, modalities=modalities, couplings=couplings)


def copies_of(reached: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return the name of each modality's copy of every latent that others reach too."""
    count = Counter(latent for latents in reached.values() for latent in latents)
    return {
        modality: {latent: f"{latent}__{modality}" for latent in latents if count[latent] > 1}
        for modality, latents in reached.items()
    }


def _named(latent, name: str | None):
    return latent if name is None else replace(latent, name=name)


def _reading(modality, names: dict[str, str] | None):
    """Return a modality that reads copies; as it is where none of its latents is shared."""
    return replace(modality, forward=modality.forward.renamed(names)) if names else modality
