//! temporary
use crate::link::LinkConfig;
/// t
#[derive(Clone, Debug, clap::Args)]
pub struct LinkArgs {
    /// l
    #[arg(long)]
    pub link: Option<String>,
    /// u
    #[arg(long)]
    pub link_up: Option<String>,
    /// d
    #[arg(long)]
    pub link_down: Option<String>,
    /// p
    #[arg(long)]
    pub profile: Option<String>,
}
impl LinkArgs {
    /// r
    pub fn resolve(&self) -> Result<(LinkConfig, LinkConfig), String> {
        let mut base = LinkConfig::perfect();
        if let Some(p) = &self.profile {
            base.apply(&format!("profile:{p}")).map_err(|e| e.to_string())?;
        }
        if let Some(p) = &self.link {
            base.apply(p).map_err(|e| e.to_string())?;
        }
        let (mut up, mut down) = (base.clone(), base);
        if let Some(p) = &self.link_up {
            up.apply(p).map_err(|e| e.to_string())?;
        }
        if let Some(p) = &self.link_down {
            down.apply(p).map_err(|e| e.to_string())?;
        }
        Ok((up, down))
    }
}
