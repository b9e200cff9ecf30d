"""Semantic rules: what an engine would refuse, or accept and regret, said before a host is touched.

A rule is a function of a case that yields problems. Each says its reason, names the variable and the remedy.
"""
