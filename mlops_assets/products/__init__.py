"""The reference products. A team's own sit beside them."""

from mlops_assets.products.recommendations import RECOMMENDATIONS

PRODUCTS = (RECOMMENDATIONS,)
