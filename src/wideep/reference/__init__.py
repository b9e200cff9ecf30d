"""What configs/ knows: releases, flag catalogues, model and GPU cards."""
