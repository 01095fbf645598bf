"""The sentences of the contract as tests: starting, asking, bringing, ending; `given` holds what they all need."""
