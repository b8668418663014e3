"""GeoCLIP: coordinates as photographs know them.

V. Vivanco Cepeda, G. K. Nayak and M. Shah 2023, arXiv 2309.16020. The route: degrees are projected
to the Equal Earth plane, random Fourier features of three scales go through one network each and
are summed (`encoders.location.FourierCapsules`). The authors' weights are read from the package
`geoclip`, from the data kit or from a file; no code of that package runs.
"""

from __future__ import annotations

from pathlib import Path

from georama.card import Card
from georama.encoders.location import LocationEncoder
from georama.errors import DataError

CARD = Card(
    name="geoclip",
    title="GeoCLIP location encoder: random Fourier features of an Equal Earth map",
    authors="V. Vivanco Cepeda, G. K. Nayak, M. Shah",
    year=2023,
    arxiv="2309.16020",
    family="location encoders",
    reads=("lonlat",),
    needs=("lonlat",),
    gives="512 numbers a point, no unit",
    kept="the location encoder with the authors' weights, equal to their package within 1e-6",
    left_out="the image side, its training, and the search in a gallery of coordinates",
    data="4.7 million geotagged photographs (MP-16)",
    licence="MIT",
    known_limits=(
        "Photographs are where people are: oceans, deserts and the poles were hardly seen.",
        "The antimeridian is a seam: longitudes 180 and -180 differ (cosine down to 0.14).",
        "A pole has as many codes as longitudes (cosine between two of them down to 0.26).",
    ),
)


class GeoCLIP:
    """The authors' location encoder; `load` gives it ready to call with degrees (n, 2)."""

    @staticmethod
    def load(weights: str | Path | None = None) -> LocationEncoder:
        """The encoder with the authors' weights.

        Args:
            weights: A file of GeoCLIP location weights; without it, those of the installed package
                or of the data kit.

        Raises:
            DataError: there are no weights, or the file is of another model.
        """
        from georama.encoders.checkpoints import find_geoclip_weights, load_location_weights

        file = find_geoclip_weights() if weights is None else Path(weights)
        encoder = load_location_weights(file)
        if encoder.name != "geoclip":
            raise DataError(
                f"weights of GeoCLIP are wanted, {file} holds those of {encoder.name}",
                remedy="give the file alone as --model, and its family is found from its content",
            )
        return encoder
