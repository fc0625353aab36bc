// The levels and marks of each second, as the picture draws them.

/** Reduce levels to at most `most` steps: the mean power and the highest maximum of each. */
export function pooled(series, most) {
  const { step_s, laeq_db, lafmax_db, overloaded, under_range } = series;
  const each = Math.ceil(laeq_db.length / most);
  if (each <= 1) return series;
  const pool = (values, join) => {
    const joined = [];
    for (let start = 0; start < values.length; start += each) {
      const heard = values.slice(start, start + each).filter((db) => db !== null);
      joined.push(heard.length ? join(heard) : null);
    }
    return joined;
  };
  const mean = (levels) => 10 * Math.log10(
    levels.reduce((sum, db) => sum + 10 ** (db / 10), 0) / levels.length);
  return {
    step_s: step_s * each,
    laeq_db: pool(laeq_db, mean),
    lafmax_db: pool(lafmax_db, (levels) => Math.max(...levels)),
    overloaded: overloaded && pool(overloaded, (marks) => marks.includes(true)),
    under_range: under_range && pool(under_range, (marks) => marks.includes(true)),
  };
}

/** Return the intervals of consecutive true values, in seconds. */
export function spansOf(values, step_s) {
  const spans = [];
  values.forEach((value, index) => {
    if (!value) return;
    if (values[index - 1]) spans.at(-1).end_s = (index + 1) * step_s;
    else spans.push({ start_s: index * step_s, end_s: (index + 1) * step_s });
  });
  return spans;
}
