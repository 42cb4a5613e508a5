"""Engines that journal workflows, doing four durable steps: run by an environment of their own, without Hostler."""
