"""The suite in other projects' clothes; each module needs the project it is named after."""
