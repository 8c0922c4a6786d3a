"""The simulators under the import paths of the research code, for its notebooks; nothing of ours imports these."""
