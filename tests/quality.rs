use archplan::quality::{table, validation::*, fit};
#[test]
fn scratch() {
    let f = refit().unwrap();
    for c in &f.coefficient { println!("{:32}{:10.4} {:5.2}", c.name,c.value,c.from_table);} println!("eff {}", f.coefficient.iter().map(|c| c.from_table).sum::<f64>());
    let (s,b)=(table::samples().unwrap(), table::beliefs().unwrap());
    let law=f.law();
    let obs = fit::observations(&s, |s| archplan::quality::cuts::Cuts::between(&s.parent_shape,&s.child_shape)).unwrap();
    for o in &obs { let n=law.axis_nats(&o.cuts,o.tokens_b,o.benchmark); println!("{:16}{:18}{:8}{:11} {:6.2} {:6.2} pred {:6.2} err {:6.2}  nats {:.3?}", o.parent,o.child,o.tokens_b,o.benchmark.name(),o.parent_percent,o.child_percent,o.predicted_percent(&law),o.predicted_percent(&law)-o.child_percent,n); }
    for m in [Method::Axes, Method::SizeOnly] { for l in [LeftOut::Child,LeftOut::Parent,LeftOut::HeldOut] {
        let u=unseen(m,l,&s,&b).unwrap();
        for x in scores(m,l,&u,f.interval_scale) { println!("{:?} {:?} {:?} n {} mae {:.2} med {:.2} bias {:.2} rho {:?} cov {:.0}", m,l,x.benchmark,x.n,x.mean_abs_error_points,x.median_abs_error_points,x.bias_points,x.spearman,x.coverage_percent); }
    }}
    for r in table::rankings().unwrap() { println!("{:?}", ranking_score(&law,&r,100.0).unwrap()); for (a,_,s) in &r.candidates { let n=law.axis_nats(&archplan::quality::cuts::Cuts::between(&r.parent,a).unwrap(),0.0,archplan::quality::benchmark::Benchmark::Mmlu); println!("   {} {} {:?} score {} pred {:.1}", a.depth(), a.hidden, a.uniform_shape().unwrap().ffn, s, law.accuracy_percent(archplan::quality::benchmark::Benchmark::Mmlu,74.93,n.iter().sum())); } }
}
