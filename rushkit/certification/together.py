"""How many images of a test set are right and robust, all certificates taken together: docs/certificates.md proves it.

Each certificate is false with probability at most alpha, so among many some may be. Two lower bounds on the number of
true ones share one alpha, and the better of them counts at each radius.
"""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.certificates import Certificates
from rushkit.certification.procedure import Conclusion, Procedure
from rushkit.results.logs import CountsLine
from rushkit.results.together import Together, together_at


def strict_certificates(
    procedure: Procedure, lines: Sequence[CountsLine], conclusion: Conclusion
) -> tuple[Together, Certificates]:
    """Return the levels of the two bounds, and the certificates at the stricter one, from the same counts.

    Args:
        procedure: The procedure that certifies from the counts.
        lines: The counts.
        conclusion: What the procedure concludes from them at its own alpha.
    """
    alpha, images = procedure.claim.alpha, len(conclusion.counts.images)
    together = together_at(alpha, images)
    if together.strict_alpha == alpha:
        return together, conclusion.certificates
    return together, procedure.at(together.strict_alpha).conclude(lines).certificates
