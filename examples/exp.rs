use archplan::hardware::kernel::*;
use archplan::hardware::latency::kernel_model::{crossval::*, members::*,axes};
use archplan::hardware::profile::device::*;
use archplan::units::*;
use std::collections::*;
fn device(name:&str)->Device{
  let (bf,f8,i8,bw,cores,tile)=match name {"ascend_910b"=>(353.9,0.0,752.0,1600.0,24,16),"a100_sxm"=>(312.,0.,624.,2039.,108,128),"h100_sxm"=>(989.,1978.,1978.,3350.,132,128),_=>(989.,1978.,1978.,4800.,132,128)};
  let mut peaks=BTreeMap::new(); peaks.insert(DType::Bf16,FlopsPerSecond::from_tflops(bf)); if f8>0.{peaks.insert(DType::Fp8,FlopsPerSecond::from_tflops(f8));} peaks.insert(DType::Int8,FlopsPerSecond::from_tflops(i8));
  Device{name:name.into(),peaks,hbm:Bytes::from_gib(80.),hbm_bandwidth:BytesPerSecond::from_gbps(bw),l2:None,cores,tile:Tile{m:tile,n:tile,k:16},interconnect:BytesPerSecond::from_gbps(450.),granularity:Granularity{hidden:256,ffn:512}}
}
fn load(dev:&str,fam:&str,dt:&str)->Vec<([u32;5],f64)>{
  let mut r=csv::Reader::from_path(format!("/work/shared/data/kernels/{dev}/{fam}.csv")).unwrap(); let mut v=vec![];
  for rec in r.records(){let rec=rec.unwrap();let n=rec.len(); if &rec[n-2]!=dt{continue} let mut c=[0u32;5]; for i in 0..n-2{c[i]=rec[i].parse().unwrap();} v.push((c,rec[n-1].parse::<f64>().unwrap()*1e-6));}
  v
}
fn stats(name:&str,e:impl Iterator<Item=f64>)->String{ let mut e:Vec<f64>=e.collect(); let n=e.len(); if n==0 {return format!("{name}: -")} for v in e.iter_mut(){*v=(v.exp()-1.).abs()*100.;} e.sort_by(f64::total_cmp); format!("{name} {:.2}/{:.2}/{:.1}",e[n/2],e.iter().sum::<f64>()/n as f64,e[n*9/10]) }
fn main(){
  let a:Vec<String>=std::env::args().collect(); let d=device(&a[1]); let fam=match a[2].as_str(){"gemm"=>KernelFamily::Gemm,"prefill"=>KernelFamily::AttentionPrefill,_=>KernelFamily::AttentionDecode};
  let dt:DType=a[3].parse().unwrap(); let rows=Rows::new(fam,dt,&d,load(&a[1],fam.name(),&a[3]));
  let envf=|k:&str,d:usize|std::env::var(k).ok().and_then(|v|v.parse().ok()).unwrap_or(d);
  let eff=Effort{own_samples:envf("OWN",30000),joint_samples:envf("JOINT",60000),global_samples:envf("GLOBAL",30000),trees:envf("TREES",150),leaves:envf("LEAVES",32)};
  let split=if envf("K",5)==0{Split::OneValue}else{Split::Folds(envf("K",5))};
  let pats:Vec<usize>=std::env::var("PATS").map(|v|v.split(',').map(|x|x.parse().unwrap()).collect()).unwrap_or((0..axes::patterns(fam).len()).collect());
  for p in pats { let t0=std::time::Instant::now(); let h=hold_out(&rows,&d,p,split,eff); let nf=h.iter().map(|h|h.fold).max().unwrap_or(0)+1;
    let m:Vec<Mix>=(0..nf).map(|f|Mix::learn(h.iter().filter(|h|h.fold!=f))).collect();
    println!("{:04b} n {} {} | {} | {} | {} | {}  {:.2?} {:?}",axes::patterns(fam)[p],h.len(),stats("base",h.iter().map(|h|h.target-h.answers.base)),stats("own",h.iter().map(|h|h.target-h.answers.base-h.answers.own)),stats("joint",h.iter().map(|h|h.target-h.answers.base-h.answers.joint)),stats("glob",h.iter().map(|h|h.target-h.answers.base-h.answers.global)),stats("MIX",h.iter().map(|h|h.target-m[h.fold].apply(&h.answers))),m[0],t0.elapsed()); }
}
