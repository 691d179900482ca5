"""Mathematics, the training loop, configuration and files: everything that knows neither data sets nor networks."""
