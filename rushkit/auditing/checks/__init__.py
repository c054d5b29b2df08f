"""The checks of an audit, one function each, by what they are about; ``checklist`` lists and runs them."""
