# Draws curves.csv: curves.sh sets csv, svg and shown (names of curves).
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
n = words(shown)
set terminal svg size 300 * n, 620 dynamic font "sans-serif,11" background "white"
set output svg
set multiplot layout 2, n columnsfirst
set datafile separator ","
set logscale xy
set grid
set key outside below center maxrows 2 reverse Left samplen 2 font ",9"
set autoscale xfix
set mxtics 1
set mytics 1
label(curve) = curve eq "tasks" ? "tasks an iteration" : \
               curve eq "steps" ? "inner steps" : \
               curve eq "shots" ? "shots" : \
               curve eq "width" ? "units of the hidden layers (mlp)" : \
               curve eq "filters" ? "filters of each layer (conv4)" : curve
rows(curve, family, threads) = sprintf( \
    "< awk -F, '$1 == \"%s\" && $2 ~ /^%s-/ && $4 == %d' '%s'", \
    curve, family, threads, csv)
name(family, curve) = family eq "mlp" ? \
    (curve eq "width" ? "mlp" : "mlp-40") : \
    (curve eq "filters" ? "conv4" : "conv4-16")
colour(family) = family eq "mlp" ? 0x1f77b4 : 0xd62728
# Dashes for one thread, a line for two. Curves that only one of the networks has.
has(curve, family) = system(sprintf( \
    "awk -F, '$1 == \"%s\" && $2 ~ /^%s-/' '%s' | wc -l", curve, family, csv)) + 0
families(curve) = (has(curve, "mlp") ? "mlp " : "") . \
                  (has(curve, "conv4") ? "conv4" : "")
threads = system(sprintf("awk -F, 'NR > 1 {print $4}' '%s' | sort -u | xargs", csv))
do for [curve in shown] {
  set xlabel label(curve) offset 0, 0.4
  set ylabel "ms a meta-step"
  plot for [f in families(curve)] for [t in threads] \
    rows(curve, f, t + 0) using 3:6 with linespoints pt (t eq "1" ? 6 : 7) \
    dt 3-t lc rgb colour(f) notitle
  set ylabel "peak memory, MB"
  plot for [f in families(curve)] for [t in threads] \
    rows(curve, f, t + 0) using 3:9 with linespoints pt (t eq "1" ? 6 : 7) \
    dt 3-t lc rgb colour(f) \
    title sprintf("%s, %s thread%s", name(f, curve), t, t eq "1" ? "" : "s")
}
unset multiplot
