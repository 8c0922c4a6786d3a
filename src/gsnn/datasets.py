"""Real data sets, read from the registry packages that bring them.

None of their data are copied or shipped here: the files are found through the metadata of the installed package, and
none of its code is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from gsnn.base.errors import DataError, MissingExtraError, unknown_option

if TYPE_CHECKING:
    from gsnn.data import PerturbationData

__all__ = ["DATASETS", "Dataset", "dataset_files", "load_dataset", "load_extliver", "load_liverdream"]


@dataclass(frozen=True)
class Dataset:
    """A data set and its origin.

    Attributes:
        name: What :func:`load_dataset` calls it.
        description: What was done, and to what.
        origin: The work it comes from.
        licence: The terms of the package that brings it.
        package: That package, in the registry.
        extra: The extra of this package that installs it.
        files: Path of the prior network (``graph``) and of the responses (``data``) within the package.
    """

    name: str
    description: str
    origin: str
    licence: str
    package: str
    extra: str
    files: dict[str, str]


def _caspo(folder: str) -> dict[str, str]:
    return {"graph": f"caspo/data/{folder}/pkn.sif", "data": f"caspo/data/{folder}/dataset.csv"}


DATASETS: dict[str, Dataset] = {
    "extliver": Dataset(
        name="extliver",
        description=(
            "Signalling in HepG2 liver cells: 64 conditions of 7 stimuli and 7 inhibitors, 15 phospho-proteins after "
            "30 minutes; prior network of 82 species and 116 signed edges"
        ),
        origin="Morris et al., PLoS Comput Biol 7(3), 2011 (CellNOpt's ExtLiverPCB), as shipped with caspo",
        licence="GPL-3.0 (caspo)",
        package="caspo",
        extra="demo",
        files=_caspo("ExtLiver"),
    ),
    "liverdream": Dataset(
        name="liverdream",
        description=(
            "Signalling in HepG2 liver cells, from the DREAM challenge: 25 conditions of 4 stimuli and 4 inhibitors, 7 "
            "phospho-proteins after 30 minutes; prior network of 40 species and 58 signed edges"
        ),
        origin=(
            "Saez-Rodriguez et al., Mol Syst Biol 5:331, 2009; Prill et al., PLoS One 5(2):e9202, 2010 (CellNOpt's "
            "LiverDREAM), as shipped with caspo"
        ),
        licence="GPL-3.0 (caspo)",
        package="caspo",
        extra="demo",
        files=_caspo("LiverDREAM"),
    ),
}


def dataset_files(name: str) -> dict[str, Path]:
    """Where the files of a data set are.

    Args:
        name: One of ``DATASETS``, in any case.

    Returns:
        The paths of the prior network (``graph``) and of the responses (``data``).

    Raises:
        DataError: If there is no such data set, or the installed package lacks the file.
        MissingExtraError: If the package that brings it is not installed.
    """
    if name.casefold() not in DATASETS:
        raise DataError(str(unknown_option("dataset", name, DATASETS)))
    dataset = DATASETS[name.casefold()]
    try:
        package = metadata.distribution(dataset.package)
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f"the data set '{dataset.name}' comes with the package {dataset.package}, which is not installed; "
            f"run: pip install 'gsnn[{dataset.extra}]'"
        ) from error
    files = {}
    for role, inside in dataset.files.items():
        path = Path(str(package.locate_file(inside)))
        if not path.is_file():
            raise DataError(
                f"{dataset.package} {package.version} is installed without its file {inside}; "
                f"run: pip install --force-reinstall 'gsnn[{dataset.extra}]'"
            )
        files[role] = path
    return files


def load_dataset(name: str, *, time: float | str | None = None) -> PerturbationData:
    """Read a data set by name.

    Args:
        name: One of ``DATASETS``, in any case.
        time: The time to use, in the units of the data; by default the last.

    Raises:
        DataError: If there is no such data set.
        MissingExtraError: If the package that brings it is not installed.
    """
    from gsnn.data import build_data
    from gsnn.io import read_network, read_responses

    files = dataset_files(name)
    return build_data(read_network(files["graph"]), read_responses(files["data"], time=time))


def load_extliver() -> PerturbationData:
    """Signalling in liver cells: 64 conditions, 15 readouts, 82 species, 116 signed edges.

    Raises:
        MissingExtraError: If the package ``caspo`` is not installed.
    """
    return load_dataset("extliver")


def load_liverdream() -> PerturbationData:
    """Signalling in liver cells, from the DREAM challenge: 25 conditions, 7 readouts, 40 species, 58 signed edges.

    Raises:
        MissingExtraError: If the package ``caspo`` is not installed.
    """
    return load_dataset("liverdream")
