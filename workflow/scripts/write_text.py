"""Writes a text that the workflow holds, of any length, into a file."""

from pathlib import Path

from masf.atomic import replacing

with replacing(Path(snakemake.output[0])) as temporary:  # noqa: F821
    temporary.write_text(snakemake.params.text + "\n", encoding="utf-8")  # noqa: F821
