"""The frequency of a signal with its error."""
from __future__ import annotations
import numpy as np
__all__=["frequency"]
def frequency(time: np.ndarray, signal: np.ndarray) -> tuple[float, float]:
    """placeholder until strouhal.py: mean interval of upward crossings."""
    s=signal-signal.mean()
    k=np.flatnonzero((s[:-1]<0)&(s[1:]>=0))
    t=time[k]-s[k]*(time[k+1]-time[k])/(s[k+1]-s[k])
    d=np.diff(t)
    if len(d)<2: return float("nan"), float("nan")
    return float(1/d.mean()), float(d.std(ddof=1)/np.sqrt(len(d))/d.mean()**2)
