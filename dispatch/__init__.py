"""The Lambdas that start runs on the deployment twin: the terminal is a doorbell, the ledger is the truth."""
