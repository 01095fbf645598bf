"""What travels to the VM as carrier.pyz: standard library and google-cloud-storage, Python 3.10 to 3.14.

The launcher uses the same modules, so that both ends have one idea of the store. Google's library is imported at the
first request.
"""
