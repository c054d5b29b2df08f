"""The JSON documents of rushkit: what commands print under ``--json``, the files that users read, and their schemas."""
